"""What a person sees who keeps the local stack running: where everything is, which keys open it, and what to try first."""

from __future__ import annotations

from rich.console import Console

from devnet.config import Endpoints, Places


def show_welcome(ends: Endpoints, places: Places, console: Console) -> None:
    """URLs, files with API keys, and three commands."""
    keys = places.state / "keys"
    console.print("\n[bold]The stack keeps running.[/bold] `custody down` ends it.\n")
    for name, url in (
        ("REST", f"{ends.api_url}/v1"),
        ("GraphQL", f"{ends.api_url}/graphql"),
        ("metrics", f"{ends.api_url}/metrics"),
        ("documentation", f"{ends.api_url}/docs"),
        ("books, chains", f"{ends.api_url}/recon"),
        ("Stellar RPC", ends.stellar_rpc_url),
        ("Ethereum RPC", ends.evm_rpc_url),
        ("sandbox bank", ends.bank_url),
    ):
        console.print(f"  {name:<14} {url}")
    console.print("\nAPI keys (each file holds one secret):")
    for path in sorted(keys.iterdir()):
        console.print(f"  {path.name:<14} {path}")
    console.print(
        "\nTry:\n"
        f'  curl -s -H "Authorization: Bearer $(cat {keys / "app"})" {ends.api_url}/v1/customers\n'
        f"  .venv/bin/custody approve list --api {ends.api_url} --token-file {keys / 'alice'}\n"
        f"  CUSTODY_CONFIG={ends.config} .venv/bin/custody recon\n"
    )
