"""The figures that the papers print, and what of them is a count. Knows nothing of data and nets."""
