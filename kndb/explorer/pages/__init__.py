"""The explorer's pages, by what they show: functions that make a `Page` of a `Visit`."""
