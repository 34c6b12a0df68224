"""Messages to people about changes of an aggregate's state, kept until sent and for a while after."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from aggregates.models.aggdef import AggDef
from aggregates.run.position import new_uid


class Alert(models.Model):
    """One change of state to send through one channel, created in the transaction that records the change."""

    class Event(models.TextChoices):
        RAISED = "raised", "raised"
        RECOVERED = "recovered", "recovered"

    uid = models.CharField(max_length=32, unique=True, default=new_uid, editable=False)
    aggdef = models.ForeignKey(AggDef, on_delete=models.CASCADE, related_name="alerts")
    kind = models.CharField(max_length=10)
    event = models.CharField(max_length=10, choices=Event.choices)
    text = models.TextField()
    channel = models.CharField(max_length=10)
    created = models.DateTimeField(auto_now_add=True)
    sent = models.DateTimeField(null=True)  # None = not yet
    given_up = models.BooleanField(default=False)
    attempts = models.PositiveIntegerField(default=0)
    not_before = models.DateTimeField()
    last_error = models.TextField(blank=True)

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["not_before"], name="alert_waiting", condition=Q(sent__isnull=True, given_up=False)),
        ]

    def __str__(self) -> str:
        return f"{self.aggdef_id} {self.kind} {self.event} by {self.channel}"
