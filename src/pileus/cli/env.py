"""`pileus env`, and clouds.yaml for the stock clients."""

from __future__ import annotations

import argparse
import shlex

import yaml

from pileus.cli.session import home_of, load_config, password_of
from pileus.kernel.config import Config
from pileus.server.secrets import write_private


def settings(config: Config, user: str) -> dict[str, str]:
    """The OS_ variables of admin or demo."""
    values = {
        "OS_AUTH_URL": f"{config.base_url}/identity/v3",
        "OS_IDENTITY_API_VERSION": "3",
        "OS_AUTH_TYPE": "password",
        "OS_USERNAME": user,
        "OS_PASSWORD": password_of(config.home, user),
        "OS_PROJECT_NAME": user,
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default",
        "OS_REGION_NAME": config.pileus.region,
    }
    if config.ca_file:
        values["OS_CACERT"] = config.ca_file
    return values


def run(arguments: argparse.Namespace) -> int:
    """Print `export` lines."""
    config = load_config(home_of(arguments))
    for name, value in settings(config, arguments.user).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def write_clouds(config: Config) -> None:
    """`clouds.yaml` with the clouds `pileus` (demo) and `pileus-admin`."""
    clouds = {}
    for name, user in (("pileus", "demo"), ("pileus-admin", "admin")):
        clouds[name] = {
            "auth": {
                "auth_url": f"{config.base_url}/identity/v3",
                "username": user,
                "password": password_of(config.home, user),
                "project_name": user,
                "user_domain_id": "default",
                "project_domain_id": "default",
            },
            "region_name": config.pileus.region,
            "identity_api_version": 3,
            **({"cacert": config.ca_file} if config.ca_file else {}),
        }
    write_private(config.home / "clouds.yaml", yaml.safe_dump({"clouds": clouds}, sort_keys=False).encode())
