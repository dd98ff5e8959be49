"""The engine under virtual time and seeded faults: many peers, one heap of events, no socket, no clock, no torch.

``simulate(scenario, seed)`` runs a whole network and reports what broke; the same seed gives the same run.
``python -m distrai.simulation SCENARIO SEED`` replays one, ``... all FIRST COUNT`` runs many (``campaign.py``).
What can go wrong is in ``scenario.py``, what must hold all the same in ``watch.py`` and ``heads.py``.
"""

from distrai.simulation.report import Report
from distrai.simulation.scenario import Crashes, Links, Scenario
from distrai.simulation.scenarios import SCENARIOS
from distrai.simulation.simulate import simulate

__all__ = ["SCENARIOS", "Crashes", "Links", "Report", "Scenario", "simulate"]
