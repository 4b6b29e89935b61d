-- Which payments were made, to whom, and what does the chain's receipt say of each?
-- status: as in effects; chain_status: success or reverted, null = the chain did not say; fee: whole units of the chain's own coin
-- returns: tenant, agent, agent_id, card, account, asset, amount, payee, status, hash, chain_status, block, nonce, gas, fee, cost_usd, mode, proposed_at, ended_at
SELECT tenant, agent, agent_id, agent || '/' || campaign || '.' || ordinal || '.' || attempt AS card, account, asset, amount, payee, status, hash,
       chain_status, block, nonce, gas, fee, cost_usd, mode, proposed_at, ended_at
FROM analytics_v1.transactions
ORDER BY proposed_at DESC
LIMIT 10000
