"""`db.maintenance.tables` names what is really there, on both systems."""

from backends import BOTH, POSTGRESQL

BACKENDS = BOTH


def test_tables_and_columns_are_the_stores(db_places):
    with db_places.new().database() as database:
        if db_places.backend == POSTGRESQL:
            query = (
                "SELECT table_name, column_name FROM information_schema.columns "
                "WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
            )
        else:
            query = (
                "SELECT m.name, c.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c "
                "WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.cid"
            )
        there = {}
        for table, column in database.query.sql(query)[1]:
            there.setdefault(table, []).append(column)
        del there["alembic_version"]
        assert {name: list(columns) for name, columns in database.maintenance.tables().items()} == there
