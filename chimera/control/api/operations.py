"""The operations of the API: one row each, from which routes and the OpenAPI document are made.

The rule not to break: an operation stands here, its rule who may call it in `chimera.control.routes`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chimera.control.api import models, reads, writes
from chimera.control.api.calls import Api, Does, endpoint
from chimera.control.api.openapi import document

BASE = "/api/v1"
DOCUMENT = "/api/openapi.json"


class Operation(NamedTuple):
    """One thing that can be asked or wished for. Its summary is the first line of what `does` says of itself."""

    method: str
    path: str
    name: str
    does: Does
    answer: type[BaseModel]
    body: type[BaseModel] | None = None
    query: type[BaseModel] = models.Nothing


_CARD = "/cards/{agent}/{number}"
_PART = "/tenants/{tenant}/campaigns/{campaign}"

OPERATIONS: Sequence[Operation] = (
    Operation("GET", "/me", "me", reads.me, models.Me),
    Operation("GET", "/queue", "queue", reads.queue_, models.Queue, query=models.QueueAsked),
    Operation("GET", _CARD, "card", reads.card, models.Card),
    Operation("POST", f"{_CARD}/approve", "approve", writes.approve, models.Answers, models.Approve),
    Operation("POST", f"{_CARD}/reject", "reject", writes.reject, models.Answers, models.Reject),
    Operation("POST", f"{_CARD}/edit", "edit", writes.edit, models.Answers, models.Edit),
    Operation("POST", f"{_CARD}/undo", "undo", writes.undo, models.Answers, models.Undo),
    Operation("POST", f"{_CARD}/hold", "hold", writes.hold, models.Answers, models.Hold),
    Operation("POST", f"{_CARD}/release", "release", writes.release, models.Answers, models.Release),
    Operation("GET", "/fleet", "fleet", reads.fleet, models.Fleet),
    Operation("GET", "/agents", "agents", reads.agents, models.Agents, query=models.AgentsAsked),
    Operation("GET", "/agents/{name}", "agent", reads.agent, models.Agent),
    Operation("POST", "/agents/{name}/pause", "pauseAgent", writes.pause, models.Answers, models.Because),
    Operation("POST", "/agents/{name}/resume", "resumeAgent", writes.resume, models.Answers, models.Because),
    Operation("GET", "/campaigns", "campaigns", reads.campaigns, models.Campaigns, query=models.CampaignsAsked),
    Operation("GET", "/campaigns/{campaign}", "campaign", reads.campaign, models.Campaigns),
    Operation("POST", f"{_PART}/pause", "pauseCampaign", writes.pause_campaign, models.Answers, models.Because),
    Operation("POST", f"{_PART}/resume", "resumeCampaign", writes.resume_campaign, models.Answers, models.Because),
    Operation("POST", f"{_PART}/cancel", "cancelCampaign", writes.cancel_campaign, models.Answers, models.Because),
    Operation("GET", "/switches/stopped", "stopped", reads.stopped, models.StoppedList),
    Operation("GET", "/spend", "spend", reads.spend, models.Spend, query=models.SpendAsked),
)


def routes(api: Api) -> list[Route]:
    """A route for every operation, and one for the document."""
    told = document(BASE, OPERATIONS)

    async def openapi(request: Request) -> Response:
        return Response(told, media_type="application/vnd.oai.openapi+json")

    made = [Route(DOCUMENT, openapi)]
    for each in OPERATIONS:
        served = endpoint(api, each.query, each.body, each.does)
        made.append(Route(BASE + each.path, served, methods=[each.method], name=each.name))
    return made
