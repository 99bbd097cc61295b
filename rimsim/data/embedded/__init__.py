"""MovieLens latest-small, edition of October 2016: the log shipped with rimsim; NOTICE.md has its terms."""
