from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("aggregates", "0003_dashboard_position")]

    operations = [
        migrations.RenameField(model_name="aggdef", old_name="verdict", new_name="verification"),
        migrations.RenameField(model_name="aggdef", old_name="verdict_ok", new_name="verified_ok"),
        migrations.AlterField(
            model_name="aggdef",
            name="verification",
            field=models.TextField(blank=True, editable=False, verbose_name="last verification"),
        ),
        migrations.RenameField(model_name="run", old_name="performer", new_name="holder"),
        migrations.AlterField(
            model_name="dashboard",
            name="position",
            field=models.PositiveSmallIntegerField(
                default=10,
                help_text="Smaller numbers come first. The overview shows the first chart of the first dashboard.",
            ),
        ),
    ]
