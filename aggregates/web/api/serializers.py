"""Shapes of requests and answers for the OpenAPI document and the browsable API."""

from typing import Any

from rest_framework import serializers


class ShortListField(serializers.ListField):
    """A list of at most `max_length` items, of which a longer one is refused before any item is checked."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the checked items. Raise `ValidationError`."""
        if isinstance(data, list) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


class ErrorDetail(serializers.Serializer[None]):
    """Code and description of an error."""

    code = serializers.CharField(help_text="Stable, for programs.")
    message = serializers.CharField(help_text="For people: what was wrong, and what to do.")
    details = serializers.DictField(required=False)


class ErrorSerializer(serializers.Serializer[None]):
    """The shape of every error."""

    error = ErrorDetail()


# An event as JSON Schema.
EVENT = {
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "minLength": 1, "maxLength": 256},
        "timestamp": {"type": "string", "format": "date-time", "description": "Now, if it is absent; no offset = UTC."},
        "context": {"type": "object", "additionalProperties": True},
        "extra": {"description": "Anything."},
        "id": {
            "type": "string",
            "minLength": 1,
            "maxLength": 256,
            "description": "The producer's own key: a second event with it is a duplicate.",
        },
    },
}


class RejectedSerializer(serializers.Serializer[None]):
    """The reason why an event of a request was rejected."""

    index = serializers.IntegerField(help_text="Its place in the request, from 0.")
    code = serializers.CharField()
    message = serializers.CharField()
    count = serializers.IntegerField(help_text="Number of events that it stands for, if several.", required=False)
    indexes = serializers.ListField(
        child=serializers.IntegerField(), help_text="Their places, if they are 5,000 or fewer.", required=False
    )


class ReceiptSerializer(serializers.Serializer[None]):
    """The receipt for a request: accepted events are in the journal, on disk."""

    accepted = serializers.IntegerField()
    rejected = RejectedSerializer(many=True)


class StoredEventSerializer(serializers.Serializer[None]):
    """An event with the id that it was given at its commit."""

    _id = serializers.IntegerField()
    type = serializers.CharField()
    timestamp = serializers.DateTimeField()
    context = serializers.DictField()  # type: ignore[assignment]
    extra = serializers.JSONField(required=False)
    id = serializers.CharField(required=False)


class EventPageSerializer(serializers.Serializer[None]):
    """Events, newest id first."""

    events = StoredEventSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text="Value of `cursor` for the next page; null at the end.")


class SeriesSerializer(serializers.Serializer[None]):
    """One series; `data` is in flot's form."""

    label = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    key = serializers.CharField(allow_blank=True, help_text="The dimensions as they are in the key.")
    field = serializers.CharField(allow_blank=True)
    data = serializers.ListField(  # type: ignore[assignment]
        child=serializers.JSONField(), help_text="[[ms or key, y], ...]"
    )


class SeriesAnswerSerializer(serializers.Serializer[None]):
    """All series of one query."""

    series = SeriesSerializer(many=True)
    step = serializers.CharField(
        allow_null=True, help_text="Length of the periods: year to second, or an ISO 8601 duration such as PT5M."
    )
    step_varies = serializers.BooleanField(
        required=False, help_text="True if the task says that lengths vary; `step` is a typical one then."
    )
    omitted = serializers.IntegerField(help_text="Series left out because of `limit`.")
    outliers = serializers.IntegerField(
        help_text="Points left out because of `fill` or `bulk`: far from the others, or odd ones."
    )
    later = serializers.IntegerField(
        required=False, help_text="Points after now, left out because of `bulk`; only if there are any."
    )
    undated = serializers.IntegerField(
        required=False, help_text="Keys left out because they are no dates, as the others are; only if there are any."
    )
    key_zone = serializers.CharField(
        required=False, help_text="Zone of days and longer periods, if it is not the one asked for."
    )
    through = serializers.IntegerField(allow_null=True, help_text="Last event id contained.")
    complete_through = serializers.DateTimeField(allow_null=True)


class RankedSerializer(serializers.Serializer[None]):
    """The documents of an aggregate, largest or smallest first."""

    documents = serializers.ListField(child=serializers.DictField())
    through = serializers.IntegerField(allow_null=True)
    complete_through = serializers.DateTimeField(allow_null=True)


class CollectionsSerializer(serializers.Serializer[None]):
    """Names of all aggregates that can be read."""

    collections = serializers.ListField(child=serializers.CharField())
