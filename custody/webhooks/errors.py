"""What can be wrong with a webhook endpoint or a delivery."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, InvariantViolated, NotFound, Refused


class WebhooksNotConfigured(Refused):
    """This installation has no key to seal secrets with, so that it can sign nothing."""

    code = "webhooks_not_configured"
    public = "Webhooks are not configured on this installation."


class UnknownEndpoint(NotFound):
    """No such endpoint of this tenant, or one that was deleted and is asked to act."""

    code = "unknown_webhook_endpoint"
    public = "No such webhook endpoint."


class UnknownDelivery(NotFound):
    """No such delivery of this tenant."""

    code = "unknown_webhook_delivery"
    public = "No such webhook delivery."


class TooManyEndpoints(Refused):
    """The tenant has as many endpoints as it may have."""

    code = "too_many_webhook_endpoints"
    public = "The tenant has as many webhook endpoints as it may have."


class EndpointNotActive(Conflict):
    """Something would be sent to an endpoint that is switched off."""

    code = "webhook_endpoint_not_active"
    public = "The webhook endpoint is not active."


class DeliveryOpen(Conflict):
    """A delivery that is still being tried cannot be replayed: it will arrive, or end."""

    code = "webhook_delivery_open"
    public = "The delivery is still being tried."


class RefusedUrl(InvalidInput):
    """The address is not one that we send to: another scheme than https, credentials in it, a private or malformed host."""

    code = "webhook_url_refused"
    public = "The URL must be https, name a public host, and carry no credentials or fragment."


class RefusedAddress(Refused):
    """A host's name leads to an address inside our own or a special network. Never shown with the address."""

    code = "webhook_address_refused"
    public = "The host leads to an address that is not public."


class ReplayTooLong(InvalidInput):
    """The range of a replay is empty, turned round or longer than one call may queue."""

    code = "replay_range_refused"
    public = "A replay takes a range of 1 to 5000 sequence numbers."


class SecretUnreadable(InvariantViolated):
    """A stored secret opens with none of the configured keys."""

    code = "webhook_secret_unreadable"
    public = "A webhook secret cannot be read with the configured keys."
