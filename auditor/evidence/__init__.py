"""The evidence folder: what log and journals show, by Annex A control of ISO/IEC 27001:2022, with a signed list of its files."""
