"""The words that every other part speaks in: subjects, directives, reasons."""
