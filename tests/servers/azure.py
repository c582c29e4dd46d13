"""azurite, an Azure Blob Storage server, for tests and benchmarks."""

import base64
import hashlib
import hmac
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from tests.servers.process import running, skip_without
from tests.servers.upload import upload

# Every azurite has this account and this key; they are in its documentation.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_VERSION = "2021-12-02"


@contextmanager
def azurite() -> Iterator[str]:
    """Run an Azure server without containers, and yield the URL of its account."""
    program = skip_without("azurite-blob", "npm install --global azurite")
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--blobHost", "127.0.0.1", "--blobPort", "0", "--location", folder]
        command += ["--skipApiVersionCheck", "--disableTelemetry"]
        with running(command, ready=r"successfully listen\w* (?:at|on) (http://127\.0\.0\.1:\d+)") as match:
            yield f"{match[1]}/{ACCOUNT}"


def azure_environment(url: str) -> dict[str, str]:
    """Return the environment variables with which clients of Azure find the server."""
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        "AZURE_STORAGE_ENDPOINT": url,
        "AZURE_STORAGE_CONNECTION_STRING": (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url};"
        ),
    }


def sas_token() -> str:
    """Return a query that signs every request to the account (a shared access signature) until the year 2100."""
    fields = {"sv": _VERSION, "ss": "b", "srt": "sco", "sp": "rwdlac", "se": "2100-01-01T00:00:00Z"}
    lines = [ACCOUNT, fields["sp"], fields["ss"], fields["srt"], "", fields["se"], "", "", fields["sv"], "", ""]
    digest = hmac.digest(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256)
    return urlencode({**fields, "sig": base64.b64encode(digest).decode()})


def upload_azure(url: str, folder: Path, *, container: str, prefix: str = "") -> str:
    """Create a container if it is missing, copy the files of a folder into it, and return the address of the prefix."""
    headers = {"x-ms-version": _VERSION, "x-ms-blob-type": "BlockBlob"}
    upload(f"{url}/{container}?restype=container&{sas_token()}", headers=headers)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = f"{url}/{container}/{prefix}{path.relative_to(folder)}?{sas_token()}"
        upload(target, path.read_bytes(), headers=headers)
    return f"az://{container}/{prefix}"
