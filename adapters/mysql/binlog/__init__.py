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
| `buffer`, `found` | the bytes, in memory or in a file; what was found in them and not handed on yet |
| `tables`, `place` | tables by the log's numbers; how far the log was read |
| `assemble`, `parts` | batches; the parts of a transaction that is too large for one |
| `refusal` | errors that the server sends in place of events |
| `decoder` | the whole of it |
"""
