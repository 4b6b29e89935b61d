"""The local stack: a real Apache Kafka, a real PostgreSQL and Chimera's own processes on one machine, from packages alone.

In: settings and a home directory. Out: addresses. Data live under the home directory and survive every stop; processes never
outlive their supervisor. Nothing here reads or writes a record.
"""
