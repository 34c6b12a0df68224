from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("aggregates", "0005_login_count")]

    operations = [
        migrations.AlterField(
            model_name="aggdef",
            name="description",
            field=models.TextField(
                blank=True, help_text="What is counted, for those who read the numbers.", max_length=2000
            ),
        ),
        migrations.AlterField(
            model_name="chart",
            name="description",
            field=models.TextField(
                blank=True, help_text="A sentence below the title. Say what is counted.", max_length=2000
            ),
        ),
        migrations.AlterField(
            model_name="dashboard",
            name="description",
            field=models.TextField(blank=True, max_length=2000),
        ),
    ]
