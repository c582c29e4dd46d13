"""nginx, for tests and benchmarks."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.link import Link
from tests.servers.process import running, skip_without

_CONFIGURATION = """
daemon off;
worker_processes {workers};
{user}
pid {work}/pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
    log_format sent '$request_method $uri $status $body_bytes_sent $http_range';
    access_log {log};
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    types {{ }}
    default_type application/octet-stream;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    limit_req_zone $binary_remote_addr zone=requests:1m rate=50r/s;
    server {{
        listen {address}{tls};
        root {folder};
        {directives}
    }}
}}
"""


@contextmanager
def nginx(
    folder: Path,
    directives: str = "",
    *,
    tls: bool = False,
    log: Path | None = None,
    link: Link | None = None,
    workers: int = 1,
) -> Iterator[str]:
    """Serve a folder with nginx.

    Args:
        folder: what to serve.
        directives: lines for the `server` block, like `limit_rate 200k;` or `limit_req zone=requests;` (50 per s).
        tls: speak https, with a self-signed certificate.
        log: a file that gets a line for each request: method, path, status, bytes of the body, range.
        link: run at the server's end of this link, otherwise on this machine.
        workers: the number of processes.
    """
    program = skip_without("nginx", "nginx-light")
    with tempfile.TemporaryDirectory() as work, socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        address = f"{link.address}:80" if link else f"127.0.0.1:{listener.getsockname()[1]}"
        configuration = Path(work, "nginx.conf")
        configuration.write_text(
            _CONFIGURATION.format(
                work=work,
                workers=workers,
                user="user root;" if os.geteuid() == 0 else "",  # may read what the tests may read
                log=f"{log} sent" if log else "off",
                address=address,
                tls=_tls_directives(Path(work)) if tls else "",
                folder=folder,
                directives=directives,
            )
        )
        # nginx takes over the listening sockets of an older nginx from this variable; so the system chooses the port.
        environment = os.environ if link else {**os.environ, "NGINX": f"{listener.fileno()};"}
        command = [*(link.server if link else ()), program, "-p", work, "-c", str(configuration), "-e", "stderr"]
        descriptors = [listener.fileno()]
        with running(command, ready="start worker process", environment=environment, descriptors=descriptors):
            yield f"{'https' if tls else 'http'}://{address}"


def _tls_directives(work: Path) -> str:
    """Create a certificate that nobody has signed, and return the rest of the `listen` line."""
    key, certificate = work / "key.pem", work / "certificate.pem"
    command = [skip_without("openssl", "openssl"), "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60)
    return f" ssl; ssl_certificate {certificate}; ssl_certificate_key {key}"
