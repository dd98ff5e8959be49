"""Where ``load_json`` used to be: see ``distrai.protocol.plain_json``."""

from distrai.protocol.plain_json import DEPTH_MAX, TooDeep, check_depth, load_json

__all__ = ["DEPTH_MAX", "TooDeep", "check_depth", "load_json"]
