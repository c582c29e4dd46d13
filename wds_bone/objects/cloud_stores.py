"""Open the buckets and containers of clouds, with the credentials and endpoints of the environment.

In: a URL; environment variables and files, named as the tools of each cloud name them.
Out: a store of obstore.
Invariant: no request of a store lasts longer than `CALL_SECONDS`. The library repeats only requests of uploads, and
those only as long as `retries` would.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from obstore.store import AzureStore, GCSStore, S3Store

from wds_bone.errors import ConfigError
from wds_bone.objects import retries
from wds_bone.objects.connections import CONNECT_SECONDS, MAX_IDLE, PACE_SECONDS
from wds_bone.objects.url import Url

CALL_SECONDS = 120.0
MAX_UPLOAD_RETRIES = 20
CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; "
    "AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`; "
    "GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or append a SAS token to the URL; "
    "AZURE_SKIP_SIGNATURE=true for a public container",
}
"""What to do without credentials, or with wrong ones."""


def open_store(url: Url, *, is_upload: bool = False) -> Any:
    """Return the store of the bucket or container of a URL.

    Args:
        url: an object in it.
        is_upload: whether it writes or copies objects; then the answer to a request may come late, because it comes
            when the whole body was sent or copied, and the library repeats requests.

    Raises:
        ConfigError: if the environment does not say which account, or contradicts itself.
    """
    open_one = {"s3": _open_s3, "gs": _open_gcs, "az": _open_azure}[url.scheme]
    try:
        return open_one(url, is_upload=is_upload)
    except ImportError as error:
        problem = f"{url.scheme}://{url.host}: the package {error.name} is not installed"
        raise ConfigError(problem, do='install it: pip install "wds-bone[s3]"') from error
    except Exception as error:  # of many kinds, with texts that may contain a secret
        problem = f"{url.scheme}://{url.host}: cannot be opened with the settings of the environment"
        raise ConfigError(problem, got=type(error).__name__, do=CREDENTIALS[url.scheme]) from None


def _open_s3(url: Url, *, is_upload: bool) -> Any:
    profile = _profile() if _has_profile() else {}
    variables = (os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"))
    endpoint = next(filter(None, (*variables, profile.get("endpoint"))), None)
    given = {**profile, "endpoint": endpoint}
    return S3Store(
        url.host, **{name: value for name, value in given.items() if value}, **_options(endpoint, is_upload=is_upload)
    )


def _has_profile() -> bool:
    """Return whether a profile of the AWS tools applies: variables with keys come first, as there."""
    if "AWS_PROFILE" in os.environ:
        return True
    folder = Path.home() / ".aws"
    files = (os.environ.get("AWS_SHARED_CREDENTIALS_FILE"), folder / "credentials", folder / "config")
    return "AWS_ACCESS_KEY_ID" not in os.environ and any(Path(file).is_file() for file in files if file)


def _profile() -> dict[str, Any]:
    """Return the credentials, region and endpoint of a profile, which boto3 knows how to find."""
    from boto3 import Session
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = Session()
    if session.get_credentials() is None:
        return {}
    settings = session._session.get_scoped_config()
    region = os.environ.get("AWS_REGION") or session.region_name
    provider = Boto3CredentialProvider(session)
    return {"credential_provider": provider, "region": region, "endpoint": settings.get("endpoint_url")}


def _open_gcs(url: Url, *, is_upload: bool) -> Any:
    endpoint = os.environ.get("STORAGE_EMULATOR_HOST") or None
    if endpoint and "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    is_anonymous = bool(endpoint) and "GOOGLE_APPLICATION_CREDENTIALS" not in os.environ
    settings: dict[str, Any] = {"base_url": endpoint, "skip_signature": True} if is_anonymous else {}
    return GCSStore(url.host, **settings, **_options(endpoint, is_upload=is_upload))


def _open_azure(url: Url, *, is_upload: bool) -> Any:
    settings: dict[str, Any] = _connection_string(os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    endpoint = settings.get("endpoint") or os.environ.get("AZURE_STORAGE_ENDPOINT")
    if url.query:
        settings = {name: value for name, value in settings.items() if name != "account_key"} | {"sas_key": url.query}
    return AzureStore(url.host, **settings, **_options(endpoint, is_upload=is_upload))


def _connection_string(text: str) -> dict[str, Any]:
    """Return the settings in a connection string of Azure."""
    names = {
        "AccountName": "account_name",
        "AccountKey": "account_key",
        "BlobEndpoint": "endpoint",
        "SharedAccessSignature": "sas_key",
    }
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    return {names[name]: value for name, value in parts.items() if name in names}


def _options(endpoint: str | None, *, is_upload: bool) -> dict[str, Any]:
    client = {
        "allow_http": bool(endpoint) and str(endpoint).startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=CALL_SECONDS),
        "pool_max_idle_per_host": str(MAX_IDLE),
    }
    # For the library, the time in which a body is sent is time in which nothing is read.
    client |= {} if is_upload else {"read_timeout": timedelta(seconds=PACE_SECONDS)}
    waits = (retries.FIRST_WAIT_SECONDS, retries.LONGEST_WAIT_SECONDS) if is_upload else (0, 0)
    first, longest = (timedelta(seconds=seconds) for seconds in waits)
    retry = {
        "max_retries": MAX_UPLOAD_RETRIES if is_upload else 0,
        "retry_timeout": timedelta(seconds=retries.TIMEOUT_SECONDS),
        "backoff": {"init_backoff": first, "max_backoff": longest},
    }
    return {"client_options": client, "retry_config": retry}
