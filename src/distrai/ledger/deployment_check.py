"""Whether what stands at the addresses of a deployment is what was shipped, wired and set up as its file says.

Each immutable in the code must be a value that the deployment accounts for, and each view give what its file says.
"""

from collections.abc import Iterable
from typing import TypeVar

from distrai.ledger.abi import all_errors
from distrai.ledger.code import immutables
from distrai.ledger.contract import Contract, Guarded
from distrai.ledger.deployment_file import Deployment
from distrai.ledger.errors import BadAnswer, LedgerRefused, WrongChain
from distrai.ledger.pots import PotsClient
from distrai.ledger.rpc import Patience, Rpc, read_bytes
from distrai.ledger.sender import Sender
from distrai.ledger.settings import NOBODY, DeploymentSettings, NewToken
from distrai.ledger.stakes import StakesClient
from distrai.ledger.token import TokenClient
from distrai.ledger.training_records import RecordsClient
from distrai.protocol.keccak import keccak
from distrai.protocol.primitives import Address
from distrai.protocol.typed_data import NAME, VERSION, struct_hash, type_hash

_WORD = 32
_SHORT_TEXT_MAX = 31
_DOMAIN = type_hash("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_Client = TypeVar("_Client", bound=Contract)


async def check(
    url: str, deployment: Deployment, patience: Patience | None = None, second_url: str | None = None
) -> list[str]:
    """Everything that is not as it should be, one sentence each; empty if all is right.

    Raises LedgerUnreachable and the like where it cannot be found out.
    """
    patience = patience or Patience()
    rpc = Rpc([url] if second_url is None else [url, second_url], patience)
    rpc.chain_id = deployment.chain_id
    try:
        return await _Check(rpc, deployment, patience).all()
    except WrongChain as error:
        return [str(error)]
    finally:
        await rpc.close()


class _Check:
    """One look at everything."""

    def __init__(self, rpc: Rpc, deployment: Deployment, patience: Patience) -> None:
        self._rpc, self._of, self._findings = rpc, deployment, list[str]()
        self._sender = Sender(rpc, all_errors(), patience.call_s)

    async def all(self) -> list[str]:
        """The findings."""
        await self._code()
        if self._findings:
            return self._findings  # what another contract says of itself is worth nothing
        await self._wiring()
        await self._token()
        if self._of.settings is not None:
            await self._roles(self._of.settings)
        return self._findings

    async def _code(self) -> None:
        of, settings = self._of, self._of.settings
        windows = [] if settings is None else [_word(value) for value in vars(settings.windows).values()]
        known = {of.registry, of.token, of.rewards} | (set() if settings is None else {settings.treasury})
        places = {
            "RunRegistry": of.registry,
            "RewardsDistributor": of.rewards,
            "StakeManager": of.stakes,
            "TrainingRecords": of.records,
        }
        name, version = NAME, VERSION
        if settings is not None and isinstance(settings.token, NewToken):
            places["Token"] = of.token
        for contract, address in places.items():
            if contract == "Token":
                assert settings is not None and isinstance(settings.token, NewToken)
                name = settings.token.name
            allowed = {_word(account) for account in known | {address}} | set(windows)
            allowed |= _own_words(self._of.chain_id, address, name, version)
            await self._code_of(contract, address, allowed if settings is not None else None)

    async def _code_of(self, contract: str, address: Address, allowed: set[bytes] | None) -> None:
        code = read_bytes(await self._rpc.call("eth_getCode", _hex(address), "latest"))
        if not code:
            return self._find(f"there is no {contract} at {_hex(address)}")
        found = immutables(contract, code)
        if found is None:
            return self._find(f"the code at {_hex(address)} is not the {contract} of this program")
        if allowed is not None and (strange := found - allowed):
            shown = ", ".join(sorted(_hex(word.lstrip(b"\0")) for word in strange))
            self._find(
                f"the {contract} at {_hex(address)} was made with values that the file does not name: {shown}"
            )
        return None

    async def _wiring(self) -> None:
        of = self._of
        pots, stakes = self._client(PotsClient, of.rewards), self._client(StakesClient, of.stakes)
        records = self._client(RecordsClient, of.records)
        for name, client in (("distributor", pots), ("stake manager", stakes), ("records", records)):
            await self._expect(client, "registry", of.registry, f"the registry of the {name}")
        for name, client in (("distributor", pots), ("stake manager", stakes)):
            await self._expect(client, "token", of.token, f"the token of the {name}")

    async def _token(self) -> None:
        token = self._client(TokenClient, self._of.token)
        try:
            await self._expect(token, "decimals", self._of.decimals, "the decimals of the token")
            if not await token.total_supply():
                self._find("there is nothing of the token")
        except (LedgerRefused, BadAnswer):
            self._find(f"{_hex(self._of.token)} is no ERC-20 with decimals")

    async def _roles(self, settings: DeploymentSettings) -> None:
        pots, stakes = self._client(PotsClient, self._of.rewards), self._client(StakesClient, self._of.stakes)
        windows = settings.windows
        await self._expect(
            pots, "activationSeconds", windows.activation_seconds, "the distributor's activation"
        )
        await self._expect(pots, "settleSeconds", windows.settle_seconds, "the distributor's time to settle")
        await self._expect(pots, "deadSeconds", windows.dead_seconds, "the distributor's time to death")
        await self._expect(stakes, "unbondSeconds", windows.unbond_seconds, "the stake manager's unbonding")
        await self._expect(stakes, "slashSeconds", windows.slash_seconds, "the stake manager's slash window")
        await self._expect(stakes, "deadSeconds", windows.dead_seconds, "the stake manager's time to death")
        await self._expect(stakes, "treasury", settings.treasury, "the treasury")
        guarded: Iterable[tuple[str, Guarded]] = (("distributor", pots), ("stake manager", stakes))
        for name, client in guarded:
            await self._expect(client, "guardian", settings.guardian, f"the guardian of the {name}")
            if (offered := await client.offered()) != NOBODY:
                self._find(f"the guardian's role of the {name} is offered to {_hex(offered)}")
            if await client.paused():
                self._find(f"the {name} is paused: nothing can come in")
        guardian = settings.guardian
        if guardian == NOBODY or settings.guardian_may_be_key:
            return
        if not read_bytes(await self._rpc.call("eth_getCode", _hex(guardian), "latest")):
            self._find(f"the guardian {_hex(guardian)} is no contract: a single key is no multisig")

    async def _expect(self, client: Contract, view: str, wanted: object, what: str) -> None:
        (said,) = await client.read(view)
        if said != wanted:
            self._find(f"{what} is {_shown(said)}, the file says {_shown(wanted)}")

    def _client(self, kind: type[_Client], address: Address) -> _Client:
        return kind(self._rpc, self._sender, address, self._of.chain_id, None)

    def _find(self, finding: str) -> None:
        self._findings.append(finding)


def _own_words(chain_id: int, address: Address, name: str, version: str) -> set[bytes]:
    """What a contract with an EIP-712 domain keeps of itself."""
    hashes = [keccak(text.encode()) for text in (name, version)]
    kinds = ["bytes32", "bytes32", "uint256", "address"]
    separator = struct_hash(_DOMAIN, kinds, [*hashes, chain_id, address])
    return {separator, _word(chain_id), *hashes} | {_short_text(text) for text in (name, version)}


def _short_text(text: str) -> bytes:
    """A text as OpenZeppelin's ShortStrings keep it; longer ones are in storage, and marked so."""
    data = text.encode()
    if len(data) > _SHORT_TEXT_MAX:
        return b"\0" * _SHORT_TEXT_MAX + b"\xff"
    return data.ljust(_SHORT_TEXT_MAX, b"\0") + bytes([len(data)])


def _word(value: int | bytes) -> bytes:
    return value.to_bytes(_WORD, "big") if isinstance(value, int) else value.rjust(_WORD, b"\0")


def _shown(value: object) -> str:
    return _hex(value) if isinstance(value, bytes) else str(value)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
