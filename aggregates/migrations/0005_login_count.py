from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("aggregates", "0004_verification_and_holder")]

    operations = [
        migrations.CreateModel(
            name="LoginCount",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("count", models.PositiveIntegerField(default=0)),
                ("until", models.DateTimeField(db_index=True, help_text="Deleted after this moment.")),
            ],
        ),
    ]
