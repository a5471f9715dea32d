"""What the page and `./fer reproduce` show of one paper alone: a module a paper, named for it, with its `REPORT`."""
