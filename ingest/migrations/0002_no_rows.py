"""Let Django look for quarantine entries among no rows, since there is no table."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("ingest", "0001_initial")]

    operations = [
        migrations.AlterModelOptions(
            name="quarantineentry",
            options={
                "base_manager_name": "objects",
                "verbose_name": "refused input",
                "verbose_name_plural": "quarantine",
                "managed": False,
                "default_permissions": ("view", "change"),
            },
        )
    ]
