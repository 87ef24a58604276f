"""What only the simulation knows: which events are frauds, and what an offer really does."""

from dataclasses import dataclass, field

from replay.simulator.responses import ResponseModel


@dataclass(frozen=True)
class Truth:
    """`fraud` maps event ids of frauds that were streamed so far to their scenario's name."""

    responses: ResponseModel
    fraud: dict[str, str] = field(default_factory=dict)

    def uplift(self, customer_id: str, offer: str, channel: str | None = None) -> float:
        """Probability of a conversion with contact minus without.

        `channel` None is the channel that the customer likes best. Raises UnknownCustomerError.
        """
        response = self.responses.response(customer_id, offer, channel)
        return response.p_with - response.p_without
