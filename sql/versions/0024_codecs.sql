-- A rebuild fills it for what the log tells; what was ordered before records told it stays unknown.
ALTER TABLE assets ADD COLUMN codec text NOT NULL DEFAULT '';
