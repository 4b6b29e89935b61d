"""The courier on a real broker: a fan-out to a thousand agents, its process killed in the middle, and everyone is told once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from chimera import failpoints
from chimera.commands import tenants
from chimera.commands.courier import Courier
from chimera.commands.decision import Answer, Order, TenantDecision
from chimera.commands.keys import agent_key, tenant_key
from chimera.commands.service import CommandService
from chimera.events.envelope import Record
from chimera.events.records import AgentEnrolled, AgentJoined, Data, PolicyInline, TenantCreated
from chimera.events.state import Agent, Ruling
from chimera.events.tenant import Tenant
from chimera.settings import Settings
from tests.integration.ownlog import NO_DATABASE, installed, own_log

AGENTS = 1_000
PROGRAM = (
    "from chimera import failpoints; from chimera.commands import wiring, server; from chimera.settings import Settings;"
    " wiring.LOG_TOPIC = {topic!r}; failpoints.arm(Settings().home, 'command'); server.run(Settings())"
)
DEADLINE_S = 120.0


@pytest.fixture
def topic(kafka_bootstrap: str) -> str:
    return own_log(kafka_bootstrap, "courier")


@pytest.fixture
def settings(kafka_bootstrap: str, topic: str, tmp_path: Path) -> Settings:
    return installed(Settings(home=tmp_path / "home", kafka=kafka_bootstrap, postgres=NO_DATABASE), topic)


class House:
    """One who commands and watches, with every copy that counted."""

    def __init__(self, bootstrap: str, settings: Settings, topic: str) -> None:
        self.counted: Counter[tuple[str, str, int]] = Counter()
        self.void: Counter[str] = Counter()
        self.service = CommandService(bootstrap, settings, topic=topic, observe=self._observe)
        self.installation = self.service.keys.installation.installation
        self.key = tenant_key(self.installation, "acme")

    def _observe(self, record: Record, ruling: Ruling) -> None:
        copied = getattr(record.data, "copied", None)
        if copied is not None and ruling.outcome == "void":
            self.void[ruling.reason] += 1
        elif copied is not None:
            assert ruling.outcome == "applied", f"{record.type} to {record.key}: {ruling}"
            self.counted[record.key, record.type, copied.number] += 1

    def order(self, decide: TenantDecision) -> Answer:
        answer = self.service.submit(decide, key=self.key, tenant="acme", actor="kim")
        assert answer.outcome == "applied", answer
        return answer

    def populate(self, count: int) -> list[str]:
        """Enrol so many agents and let them join the tenant; their keys."""
        names = [f"a{n}" for n in range(count)]
        keys = [agent_key(self.installation, "acme", name) for name in names]

        def enrol(name: str) -> Callable[[Agent | None], Sequence[Data]]:
            return lambda agent: [] if agent else [AgentEnrolled(name=name)]

        self.service.submit_many([Order(k, "acme", "kim", enrol(n), str(uuid.uuid4())) for k, n in zip(keys, names, strict=True)])
        joined = [AgentJoined(agent=key, name=name) for key, name in zip(keys, names, strict=True)]
        self.order(lambda tenant: [TenantCreated(), *joined])
        return keys

    @property
    def tenant(self) -> Tenant:
        tenant = self.service.tenant(self.key)
        assert tenant is not None
        return tenant

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Follow the log until the condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {len(self.counted)} copies counted, {len(self.tenant.owed)} agents owed"
            self.service.follow(0.05)


@pytest.fixture
def house(kafka_bootstrap: str, settings: Settings, topic: str) -> Iterator[House]:
    made = House(kafka_bootstrap, settings, topic)
    yield made
    made.service.close()


@contextmanager
def running(settings: Settings, topic: str, points: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A command service in a process of its own, armed with failpoints, killed in the end."""
    env = {**os.environ, "CHIMERA_HOME": str(settings.home), "CHIMERA_KAFKA": settings.kafka or "", "CHIMERA_POSTGRES": ""}
    env[failpoints.VARIABLE] = points
    started = subprocess.Popen([sys.executable, "-c", PROGRAM.format(topic=topic)], env=env)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def test_a_fan_out_to_a_thousand_agents_reaches_each_once_though_the_service_is_killed_in_the_middle(
    house: House, settings: Settings, topic: str
) -> None:
    keys = house.populate(AGENTS)
    house.order(tenants.publish_policy(PolicyInline(), "# rules", "eve"))
    house.order(tenants.open_campaign("Autumn", {"goal": "tea"}))
    reached = []
    for share in (1, 700, 1_300):
        with running(settings, topic):
            house.until(lambda share=share: len(house.counted) >= share, f"copy {share}")
        house.service.catch_up()
        reached.append(len(house.counted))
    assert reached[0] < 2 * AGENTS, "it was killed in the middle"
    with running(settings, topic):
        house.until(lambda: not house.tenant.owed, "all told")
    for key in keys:
        agent = house.service.agent(key)
        assert agent is not None
        assert agent.policy is not None
        assert [c.campaign_id for c in agent.campaigns.values()] == ["autumn"]
        assert agent.campaigns[1].requester == "kim", "whoever opened it may not approve its effects"
    assert len(house.counted) == 2 * AGENTS
    assert set(house.counted.values()) == {1}
    print(f"killed with {reached} of {2 * AGENTS} copies counted; late second copies: {dict(house.void)}")


def test_a_courier_killed_on_either_side_of_an_append_tells_everyone_once(house: House, settings: Settings, topic: str) -> None:
    house.populate(60)
    house.order(tenants.publish_soul("calm"))
    for point in ("courier.made", "courier.appended"):
        with running(settings, topic, f"{point}=kill#1") as service:
            assert service.wait(DEADLINE_S) == -signal.SIGKILL
    assert [line["point"] for line in failpoints.fired(settings.home)] == ["courier.made", "courier.appended"]
    with running(settings, topic):
        house.until(lambda: not house.tenant.owed, "all told")
    assert len(house.counted) == 60
    assert set(house.counted.values()) == {1}


def test_several_couriers_at_once_do_no_harm_and_each_comes_to_rest(
    house: House, kafka_bootstrap: str, settings: Settings, topic: str
) -> None:
    house.populate(60)
    house.order(tenants.publish_soul("calm"))
    house.order(tenants.set_budget("tenant", Decimal(5)))
    others = []
    for _ in range(3):
        courier = Courier()
        others.append((courier, CommandService(kafka_bootstrap, settings, topic=topic, observe=courier.note)))
    try:
        for _, service in others:
            service.catch_up()
        deadline = time.monotonic() + DEADLINE_S
        while house.tenant.owed and time.monotonic() < deadline:
            for courier, service in others:
                courier.step(service)
            house.service.follow(0.02)
        assert house.tenant.owed == {}
        assert len(house.counted) == 60
        assert set(house.counted.values()) == {1}
        for courier, service in others:
            service.catch_up()
            assert courier.step(service) == 0, "nothing is owed"
    finally:
        for courier, service in others:
            courier.close()
            service.close()
