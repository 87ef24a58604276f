"""A simulator of bank traffic with ground truth, in a closed loop with the offers made on it."""

from replay.simulator.outcomes import OfferTimeError
from replay.simulator.population import UnknownCustomerError
from replay.simulator.responses import Response, ResponseModel, UnknownChannelError
from replay.simulator.settings import DEFAULT_OFFERS, SettingsError, SimulatorSettings
from replay.simulator.simulator import TOPIC_ORDER, Simulator
from replay.simulator.truth import Truth
from replay.simulator.writer import OutputDirectoryError, write_files

__all__ = [
    "DEFAULT_OFFERS",
    "TOPIC_ORDER",
    "OfferTimeError",
    "OutputDirectoryError",
    "Response",
    "ResponseModel",
    "SettingsError",
    "Simulator",
    "SimulatorSettings",
    "Truth",
    "UnknownChannelError",
    "UnknownCustomerError",
    "write_files",
]
