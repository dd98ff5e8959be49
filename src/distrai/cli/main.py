"""``distrai``: the entry point, and how every mistake becomes one clear line and an exit code."""

import json
import re
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from distrai import __version__
from distrai.cli.compare import compare
from distrai.cli.doctor import doctor
from distrai.cli.evaluate import evaluate
from distrai.cli.init import init
from distrai.cli.jobs import jobs
from distrai.cli.join import invite, join
from distrai.cli.keys import rotate_key
from distrai.cli.ledger import ledger
from distrai.cli.model import export, generate
from distrai.cli.models import models
from distrai.cli.money import claim, earnings, estimate_, payout, stake, unstake
from distrai.cli.records import records
from distrai.cli.run import run
from distrai.cli.wallet import wallet
from distrai.cli.watch import replay, status

OK, WRONG, USAGE, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = """Exit codes: 0 all is well; 1 what was checked is wrong, or the run failed; 2 wrong usage or input;
130 interrupted (a run can be resumed with the same command)."""
_KEY = re.compile(r"(?<![0-9a-fA-F])(?:0x)?[0-9a-fA-F]{64}(?![0-9a-fA-F])|hf_[A-Za-z0-9]{16,}")
"""Whatever looks like a private key or a token of a hub is not repeated where arguments are not understood."""

app = App(
    name="distrai",
    help="Train one model together: every contribution signed, checked and recorded.",
    help_epilogue=EXIT_CODES,
    help_format="plaintext",
    version=__version__,
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    help_on_error=False,
    suppress_keyboard_interrupt=False,
)
for verb in (run, init, join, invite, rotate_key, replay, status, generate, export, compare, doctor):
    app.command(verb)
for money_verb in (stake, unstake, payout, claim, earnings):
    app.command(money_verb)
app.command(estimate_, name="estimate")
app.command(evaluate, name="eval")
for group in (wallet, ledger, jobs, models, records):
    app.command(group)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; its exit code."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(tokens)
    except CycloptsError as error:
        return _failed(tokens, USAGE, f"{_KEY.sub('(a secret)', str(error))} (see `distrai --help`)", "Usage")
    except KeyboardInterrupt:
        return _failed(tokens, INTERRUPTED, "interrupted", "Interrupted")
    except BrokenPipeError:
        return WRONG  # who read our output went away: there is nobody to tell
    except (ValueError, OSError) as error:
        return _failed(tokens, _code_of(error), _why(error), type(error).__name__)
    except Exception as error:
        if not _is_known(error):
            raise  # our own mistake: show all of it
        return _failed(tokens, WRONG, _why(error), type(error).__name__)
    return code if isinstance(code, int) else OK


def _code_of(error: Exception) -> int:
    """A run that failed is 1; whatever the user can mend before trying again is 2."""
    return WRONG if isinstance(error, OSError) or type(error).__name__ == "ChildFailed" else USAGE


def _is_known(error: Exception) -> bool:
    """Whether it is something that machines do to each other, and not a mistake of ours."""
    return bool(_families(error) & {"LedgerError", "NetworkError"})


def _families(error: Exception) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _why(error: Exception) -> str:
    """What went wrong and what to do; what a ledger says in a word or a number is explained."""
    if "LedgerError" not in _families(error) or "MoneyRefused" in _families(error):
        return str(error)
    from distrai.ledger.gas import explain

    return explain(error)


def _failed(tokens: Sequence[str], code: int, why: str, rule: str) -> int:
    print(f"distrai: {' '.join(why.split())}", file=sys.stderr)
    if "--json" in tokens:
        print(json.dumps({"ok": False, "error": rule, "why": why}))
    return code


if __name__ == "__main__":
    sys.exit(main())
