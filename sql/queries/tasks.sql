-- Where do tasks stand, per campaign?
-- agent, campaign, name: whose
-- status, reason: of the tasks; tasks: how many; oldest: since when the longest waits
-- returns: agent, campaign, name, status, reason, tasks, oldest
SELECT t.agent, t.campaign, c.name, t.status, t.reason, count(*) AS tasks, min(t.updated_at) AS oldest
FROM analytics_v1.tasks t
JOIN analytics_v1.campaigns c USING (agent_id, campaign)
GROUP BY t.agent, t.campaign, c.name, t.status, t.reason
ORDER BY t.agent, t.campaign, tasks DESC, t.status, t.reason
