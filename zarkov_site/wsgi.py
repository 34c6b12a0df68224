"""The site as a WSGI application, for gunicorn and others."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from zarkov_site.answer_file import FiledAnswers
from zarkov_site.processes.process import end_with_parent
from zarkov_site.promised_input import BodyMeans
from zarkov_site.proxy_headers import ProxyHeaders
from zarkov_site.request_body import TextInUtf8, WholeBody

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zarkov_site.settings")
end_with_parent()
_means = BodyMeans(folder=settings.ZARKOV.folder.run)
application = ProxyHeaders(
    FiledAnswers(TextInUtf8(WholeBody(get_wsgi_application(), _means)), _means.clients, _means.folder),
    settings.ZARKOV.proxies,
    settings.ZARKOV.public,
)
