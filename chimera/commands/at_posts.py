"""Verbs on what was published, performed: list it, take one post down, boost one.

The rule not to break: both are effects like any other. Each starts a campaign of its own whose one task is judged, claimed
and recorded, and it names a post of that very agent's account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chimera.commands import campaigns, verbs
from chimera.commands.decision import Refused
from chimera.commands.history import HistoryUnavailable
from chimera.commands.posts import Post, boost_name, platform_ids, takedown_name, text_of
from chimera.commands.room import Room
from chimera.commands.verbs import Reply, answered, nothing_to_do
from chimera.events.state import Agent
from chimera.policy.brief import Boost, Takedown

UNKNOWN_NOW = "posts are not known now"
Row = dict[str, Any]


def post_list(room: Room, verb: verbs.PostList) -> Reply:
    """The newest posts of one agent or of all."""
    key = None if verb.agent is None else room.fresh(lambda: room.agent(verb.agent or "")).key
    rows, note = _posts(room, key, None, verb.limit, verb.standing)
    return {"posts": rows} | note


def post_takedown(room: Room, verb: verbs.PostTakedown) -> Reply:
    """Start the campaign that takes one post down; nothing where it is down or on its way down."""
    agent = room.fresh(lambda: room.agent(verb.agent))
    row = _meant(room, agent, verb)
    platform, platform_id = row["platform"], row["platform_id"]
    _may_speak(agent, row)
    name = takedown_name(platform, platform_id)
    id_ = campaigns.campaign_id(name)
    wanted = Takedown(platform=platform, platform_id=platform_id, reason=verb.reason)
    order = room.order(verb, agent, campaigns.start(name, {"takedown": wanted.model_dump(mode="json")}))
    with room.service.still():
        under_way = campaigns.open_campaign(agent, id_) is not None
        version = agent.version
    down = bool(row.get("taken_down_ts"))
    if verb.dry_run:
        plan = "nothing: it is down" if down else "nothing: under way already" if under_way else "CampaignStarted"
        return {"campaign_id": id_, "post": row, "plan": {agent.name: plan}}
    if down and room.service.answered(agent.key, order.id) is None:
        return answered([(agent.name, nothing_to_do(agent.key, version))]) | {"campaign_id": id_}
    return room.submit([order], [agent.name]) | {"campaign_id": id_}


def post_boost(room: Room, verb: verbs.PostBoost) -> Reply:
    """Start the campaign that boosts one post; nothing where the same boost is on its way."""
    agent = room.fresh(lambda: room.agent(verb.agent))
    row = _meant(room, agent, verb)
    platform, platform_id = row["platform"], row["platform_id"]
    _may_speak(agent, row)
    if row.get("taken_down_ts"):
        raise Refused(f"post {platform_id} of agent '{agent.name}' was taken down, so nobody can be shown it")
    name = boost_name(platform, platform_id, verb.tier, verb.days)
    id_ = campaigns.campaign_id(name)
    wanted = Boost(platform=platform, platform_id=platform_id, tier=verb.tier, days=verb.days, reason=verb.reason)
    order = room.order(verb, agent, campaigns.start(name, {"boost": wanted.model_dump(mode="json")}))
    with room.service.still():
        under_way = campaigns.open_campaign(agent, id_) is not None
    if verb.dry_run:
        plan = "nothing: under way already" if under_way else "CampaignStarted"
        return {"campaign_id": id_, "post": row, "plan": {agent.name: plan}}
    return room.submit([order], [agent.name]) | {"campaign_id": id_}


def _meant(room: Room, agent: Agent, verb: verbs.PostTakedown | verbs.PostBoost) -> Row:
    """The post that a person named; with a platform given, also one that nobody here knows of."""
    for said in platform_ids(verb.post):
        rows, note = _posts(room, agent.key, said, 2)
        rows = [row for row in rows if verb.platform in (None, row["platform"])]
        if len(rows) == 1:
            return rows[0]
        if rows:
            known = ", ".join(row["platform"] for row in rows)
            raise Refused(f"agent '{agent.name}' has posts called {said} on several platforms ({known}): give --platform")
    if verb.platform is not None:
        return {"platform": verb.platform, "platform_id": platform_ids(verb.post)[-1]}
    if note:
        raise HistoryUnavailable(f"{note['incomplete']}: give --platform to name it unseen, or try again")
    raise Refused(
        f"agent '{agent.name}' is not known to have published {verb.post}: `chimera post list --agent {agent.name}` shows what it"
        " has; give --platform for what it published by other ways"
    )


def _may_speak(agent: Agent, row: Row) -> None:
    """The call is made for the account that is linked now, so that must be the one that published. Raises `Refused`."""
    account, platform = agent.accounts.get(row["platform"]), row["platform"]
    if account is None:
        raise Refused(f"agent '{agent.name}' has no account on {platform}: link one, or delete the post on the platform itself")
    if row.get("account", account) != account:
        raise Refused(
            f"@{row['account']} published it, and agent '{agent.name}' speaks as @{account} on {platform} now:"
            " delete it on the platform itself"
        )


def _posts(room: Room, key: str | None, post: str | None, limit: int, standing: bool = False) -> tuple[list[Row], Reply]:
    """Posts newest first, each with its words: of one agent, of one platform id or address, only what stands; and what is amiss."""
    service = room.service
    if not service.whole:
        nothing: list[Row] = []
        return room.past(lambda past: past.posts(key, post, limit, standing), lambda: nothing, UNKNOWN_NOW)
    found: list[tuple[Post, str, str]] = []
    with service.still():
        for each in room.seen.posts.of(key):
            if (post is not None and post not in (each.platform_id, each.url)) or (standing and each.taken_down_ts):
                continue
            row = room.seen.story.campaigns.get((each.agent, each.campaign))
            agent = service.agents.get(each.agent)
            found.append((each, agent.name if agent is not None else each.agent, row.campaign_id if row is not None else ""))
            if len(found) == limit:
                break
    return [_row(each, name, campaign, text_of(service.read_data(each.ref))) for each, name, campaign in found], {}


def _row(post: Post, agent: str, campaign: str, text: str) -> Row:
    return {
        "agent": agent,
        "stream": post.agent,
        "campaign": campaign,
        "platform": post.platform,
        "account": post.account,
        "platform_id": post.platform_id,
        "url": post.url,
        "text": text,
        "published_ts": post.published_ts,
        "taken_down_ts": post.taken_down_ts,
        "taken_down_because": post.taken_down_because,
    }


PERFORM: Mapping[type, Callable[[Room, Any], Reply]] = {
    verbs.PostList: post_list,
    verbs.PostTakedown: post_takedown,
    verbs.PostBoost: post_boost,
}
