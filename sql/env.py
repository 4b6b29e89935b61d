"""Alembic's entry, driven by `chimera.projections.schema.migrate`, which passes connection and schema in attributes.

The rule not to break: one transaction per migration run, in the named schema only.
"""

from __future__ import annotations

from alembic import context

options = context.config.attributes
context.configure(
    connection=options["connection"],
    target_metadata=None,
    version_table_schema=options["schema"],
    transactional_ddl=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
