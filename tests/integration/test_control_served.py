"""Mission Control behind a real socket: by TLS with its own certificate, and behind a proxy, believed where it is listed."""

from __future__ import annotations

import datetime
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chimera.control.app import application
from chimera.control.process import LOCAL, Serving, options
from chimera.stack.process import free_port

NAME = "desk.example"
PATIENCE_S = 60


@contextmanager
def served(home: Path, serving: Serving) -> Iterator[None]:
    """The application as `chimera run control` serves it, without a stack behind."""
    told = options(serving, "http://127.0.0.1:1")
    app = application(home, "postgresql://127.0.0.1:1/nowhere", hosts=(*LOCAL, *serving.hosts))
    server = uvicorn.Server(uvicorn.Config(app, **told, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + PATIENCE_S
        while not server.started:
            assert time.monotonic() < until
            assert thread.is_alive()
            thread.join(0.02)
        yield
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of that name, signed by itself, and its key."""
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName(NAME)])
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.add_extension(names, False).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


def test_by_tls_the_desk_is_reached_under_its_name_and_browsers_are_told_to_stay_with_tls(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    port = free_port()
    with served(tmp_path, Serving(f"127.0.0.1:{port}", *certificate, hosts=(NAME,))):
        trusting = ssl.create_default_context(cafile=str(certificate[0]))
        with httpx.Client(verify=trusting) as client:
            answer = client.get(f"https://localhost:{port}/login", headers={"Host": f"{NAME}:{port}"})
            assert (answer.status_code, answer.headers["strict-transport-security"]) == (200, "max-age=31536000")
            assert client.get(f"https://localhost:{port}/login", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(("proxies", "origin", "told"), [(("127.0.0.1",), "203.0.113.7", True), ((), "127.0.0.1", False)])
def test_where_a_request_comes_from_is_believed_of_a_listed_proxy_alone(
    tmp_path: Path, proxies: tuple[str, ...], origin: str, told: bool
) -> None:
    port = free_port()
    said = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "Sec-Fetch-Site": "same-origin"}
    with served(tmp_path, Serving(f"127.0.0.1:{port}", proxies=proxies)):
        answer = httpx.post(f"http://127.0.0.1:{port}/login", data={"name": "kim", "password": "wrong"}, headers=said)
    assert answer.status_code == 401
    assert ("strict-transport-security" in answer.headers) == told
    (line,) = (tmp_path / "security" / "waiting.jsonl").read_bytes().splitlines()
    assert orjson.loads(line)["said"]["origin"] == origin
