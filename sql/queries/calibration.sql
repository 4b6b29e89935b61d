-- Is the judge as sure as it should be?
-- tenth: lower end of the tenth of raw confidence; votes: in it; decided: by people; stated: mean calibrated confidence
-- approved_share: of the decided, approved as they stood: below `stated` the judge is too sure
-- returns: tenant, judge, tenth, votes, decided, stated, approved_share
SELECT tenant, judge, tenth, sum(votes) AS votes, sum(decided) AS decided, round((sum(confidence * votes) / sum(votes))::numeric, 3) AS stated,
       round(sum(approved) / nullif(sum(decided), 0), 3) AS approved_share
FROM analytics_v1.judge_calibration
GROUP BY tenant, judge, tenth
ORDER BY tenant, judge, tenth DESC
