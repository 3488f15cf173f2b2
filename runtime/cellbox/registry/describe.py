"""What a registry has under a name, and whether it lets somebody in: nothing is brought here."""

from __future__ import annotations

import hashlib

from cellbox.errors import IntegrityError, InvalidArgument, NotSupported, Unauthorized, Unavailable
from cellbox.images.config import CONFIG_LIMIT, parse_config, parse_index, parse_manifest
from cellbox.model.image import INDEXES, PLUGIN_CONFIG, Descriptor, Platform
from cellbox.model.reference import DEFAULT_DOMAIN, Reference
from cellbox.model.registry import Distribution
from cellbox.registry.client import Client, Repository
from cellbox.registry.origins import origin_of

_HUB = ("index.docker.io", "registry-1.docker.io")


def describe(reference: Reference, client: Client) -> Distribution:
    """The manifest or index that the reference names now, and its platforms.

    Raises NotFound, Unauthorized, Unavailable, IntegrityError, InvalidArgument for a malformed
    document.
    """
    return client.first(reference, _describe)


def plugin_config(reference: Reference, client: Client) -> bytes:
    """The config of the plugin that the reference names now. Raises as :func:`describe`, and
    NotSupported for an image that is none."""
    return client.first(reference, _plugin_config)


def domain_of(server: str) -> str:
    """The domain of image names that ``server`` stands for: a host, or any URL of it.

    Docker calls its own registry ``https://index.docker.io/v1/``, which is docker.io. Raises
    InvalidArgument for what is no host.
    """
    host = server.partition("://")[2] or server
    host = host.partition("/")[0].lower()
    if not host or host in _HUB:
        return DEFAULT_DOMAIN
    try:
        origin = origin_of(f"https://{host}/")
    except Unavailable:
        origin = None
    if origin is None or host not in (origin.authority, f"{origin.host}:{origin.port}"):
        raise InvalidArgument(f"{server[:100]!r} is not the address of a registry")
    return host


def check_login(domain: str, client: Client) -> None:
    """Raises Unauthorized unless the registry itself, not a mirror of it, takes the credentials."""
    registry = client.repositories(Reference(domain, "login"))[-1]
    try:
        registry.ping()
    except Unauthorized as error:
        raise Unauthorized(
            f"login attempt to {registry.host} failed with status: 401 Unauthorized"
        ) from error


def _describe(repository: Repository) -> Distribution:
    fetched = repository.manifest()
    kind = fetched.descriptor.media_type
    if kind in INDEXES:
        listed = parse_index(fetched.data, kind)
        return Distribution(fetched.descriptor, tuple(map(_listed, listed)))
    config = parse_config(_blob(repository, parse_manifest(fetched.data, kind).config))
    return Distribution(fetched.descriptor, (config.platform,))


def _plugin_config(repository: Repository) -> bytes:
    fetched = repository.manifest()
    kind = fetched.descriptor.media_type
    name = repository.reference.familiar
    if kind in INDEXES:
        raise NotSupported(f"{name} is not a plugin: it is a list of images")
    config = parse_manifest(fetched.data, kind).config
    if config.media_type != PLUGIN_CONFIG:
        raise NotSupported(f"{name} is not a plugin: its config is {config.media_type[:100]!r}")
    return _blob(repository, config)


def _listed(item: Descriptor) -> Platform:
    return Platform(*(item.platform.get(key, "") for key in ("os", "architecture", "variant")))


def _blob(repository: Repository, descriptor: Descriptor) -> bytes:
    """A small blob, verified."""
    if descriptor.size > CONFIG_LIMIT:
        raise InvalidArgument(f"an image config of {descriptor.size} bytes is too large")
    with repository.blob(descriptor) as stream:
        data = b"".join(stream)
    algorithm = descriptor.digest.partition(":")[0]
    digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    if digest != descriptor.digest:
        raise IntegrityError(f"the config from {repository.host}", descriptor.digest, digest)
    return data
