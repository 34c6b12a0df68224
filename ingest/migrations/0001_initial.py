"""The admin's handle on quarantine; no table is made."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="QuarantineEntry",
            fields=[("key", models.CharField(max_length=120, primary_key=True, serialize=False))],
            options={
                "verbose_name": "refused input",
                "verbose_name_plural": "quarantine",
                "managed": False,
                "default_permissions": ("view", "change"),
            },
        )
    ]
