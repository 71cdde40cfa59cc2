"""Decodes the row log of MySQL and MariaDB: bytes in, batches of columns out, compiled, without I/O.

| module | does |
|---|---|
| `event` | names of events; reads the rare ones |
| `stream` | finds events in the bytes and closes transactions (compiled) |
| `table_map` | what the log says of a table |
| `layout`, `field`, `charset` | matches it with what is wanted; picks the kernel of each column |
| `rows` | where each value of each row lies (compiled) |
| `values`, `json_document` | values to canonical text (compiled; JSON of MySQL in Python) |
| `statement` | what DDL and other statements in the log mean for the watched tables |
| `assemble`, `decoder` | batches, and the whole of it |
"""
