"""The programs as people start them: real processes, sockets, certificates, files and signals."""
