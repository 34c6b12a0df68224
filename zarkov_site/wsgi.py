"""The site as a WSGI application, for gunicorn and others."""

import os

from django.core.wsgi import get_wsgi_application

from zarkov_site.processes.process import end_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zarkov_site.settings")
end_with_parent()
application = get_wsgi_application()
