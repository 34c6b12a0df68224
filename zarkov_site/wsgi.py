"""The site as a WSGI application, for gunicorn and others."""

import os

import django
from django.conf import settings

from zarkov_site.answer_file import FiledAnswers
from zarkov_site.form_request import FormHandler
from zarkov_site.processes.process import end_with_parent
from zarkov_site.promised_input import BodyMeans
from zarkov_site.proxy_headers import ProxyHeaders
from zarkov_site.request_body import TextInUtf8, WholeBody

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zarkov_site.settings")
end_with_parent()
django.setup(set_prefix=False)
_means = BodyMeans(folder=settings.ZARKOV.folder.run)
application = ProxyHeaders(
    FiledAnswers(TextInUtf8(WholeBody(FormHandler(), _means)), _means.clients, _means.folder),
    settings.ZARKOV.proxies,
    settings.ZARKOV.public,
)
