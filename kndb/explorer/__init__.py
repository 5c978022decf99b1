"""The explorer: a store's facts, neurons, relations and edits as pages of a small local web server, `kndb serve`.

A client of `Database`, as any other program: no SQL. A page is data (`blocks.Page`), made by a function of `pages/`
from what was asked (`visit.Visit`); `registry.py` lists them. All else is made once for all pages: the HTML by one
template, the `.json` and `.csv` beside each page, sorting, filters and paging of tables (`tables.py`), the context at
the top and in the address (`context.py`), addresses for a server or for files (`addresses.py`), and what is let in
(`guard.py`).
"""
