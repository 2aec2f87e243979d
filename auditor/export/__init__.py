"""Export: decision records and the log's entries as rows for other programs."""
