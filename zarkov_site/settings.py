"""Django's settings, derived from the configuration object, which apps use as `settings.ZARKOV`."""

from functools import partial
from pathlib import Path

import dj_database_url
from django.conf import global_settings
from django.utils.functional import SimpleLazyObject

from ingest.metrics import own_metrics
from zarkov_site.config.public_address import cookie_name
from zarkov_site.config.source import load

HERE = Path(__file__).resolve().parent
FILES = HERE if (HERE / "templates").is_dir() else HERE.parent  # installed from a wheel, or a checkout

ZARKOV, ZARKOV_WARNINGS = load()
ZARKOV_WARNINGS += filter(None, [ZARKOV.folder.fault()])

SECRET_KEY = SimpleLazyObject(partial(ZARKOV.folder.secret, "django"))  # not made for commands that need none
DEBUG = False
ALLOWED_HOSTS = ZARKOV.hosts

INSTALLED_APPS = [
    "django.contrib.admin.apps.SimpleAdminConfig",  # zarkov_site.urls imports admin modules: only the web needs them
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "django_celery_beat",
    "ingest",
    "aggregates",
    "zarkov_site",
]

MIDDLEWARE = [
    "aggregates.web.middleware.HeadWithoutBody",
    "aggregates.web.metrics.request_metrics.RequestMetrics",
    "aggregates.web.middleware.CookieScope",
    "django.middleware.security.SecurityMiddleware",
    "aggregates.web.middleware.ContentSecurityPolicy",
    "aggregates.web.middleware.CrossOrigin",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "aggregates.web.middleware.KnownHost",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "aggregates.web.middleware.SlashAtEnd",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "aggregates.web.admin_selection.AdminSelection",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

if ZARKOV.metrics.own_interval_s:  # time requests; the publisher starts with the first one
    MIDDLEWARE.insert(0, "ingest.metrics.request_timer.RequestTimer")
    ZIBRATO = own_metrics.options(
        "web", lambda: ZARKOV.connect_address("metrics.publishers"), ZARKOV.metrics.own_interval_s
    )

ROOT_URLCONF = "zarkov_site.urls"
WSGI_APPLICATION = "zarkov_site.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "aggregates.web.page_text.PageTemplates",
        "DIRS": [FILES / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "aggregates.web.response.version",
            ],
        },
    },
]

SQLITE = ZARKOV.folder.root / "zarkov.sqlite3"
DATABASES = {"default": dj_database_url.config(default=f"sqlite:///{SQLITE}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    if DATABASES["default"]["NAME"] == str(SQLITE) and SQLITE.parent.is_dir() and not SQLITE.exists():
        SQLITE.touch(mode=0o600)  # SQLite would let everyone read it; its -wal and -shm get its mode
    DATABASES["default"]["ENGINE"] = "zarkov_site.sqlite"
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# The first takes the place of Django's own for the same algorithm. The rest are for accounts from another site.
PASSWORD_HASHERS = ["aggregates.web.auth.password_hash.ThreadedPasswordHasher", *global_settings.PASSWORD_HASHERS[1:]]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"

LANGUAGE_CODE = "en-us"
TIME_ZONE = ZARKOV.time_zone
USE_TZ = True

STATIC_URL = "/static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "aggregates.web.static_storage.PrefixedStaticFiles"},
}
# Front-end libraries are installed by npm at set-up and served below /static/npm/.
STATICFILES_DIRS = [
    ("npm/uplot", FILES / "node_modules" / "uplot" / "dist"),
]
WHITENOISE_USE_FINDERS = True

# Names of our own, so that no other application on the same host overwrites a cookie. Path and Secure depend on the
# request, see aggregates.web.middleware.
_cookie_name = partial(cookie_name, public=ZARKOV.public, web_port=ZARKOV.web_port, home=ZARKOV.folder.root)
SESSION_COOKIE_NAME = _cookie_name("session")
CSRF_COOKIE_NAME = _cookie_name("csrf")
LANGUAGE_COOKIE_NAME = _cookie_name("language")
SESSION_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "aggregates.web.pages.page_access.csrf_failure"
CSRF_TRUSTED_ORIGINS = [ZARKOV.public.origin] if ZARKOV.public else []
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
FILE_UPLOAD_HANDLERS = ["zarkov_site.form_request.NoFiles"]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "aggregates.web.api.authentication.RightsTokenAuthentication",
        "aggregates.web.api.authentication.LoginAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["aggregates.web.api.permission.Capability"],
    "DEFAULT_RENDERER_CLASSES": [
        "aggregates.web.api.renderer.AnswerRenderer",
        "aggregates.web.api.renderer.PageRenderer",
    ],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "aggregates.web.api.renderer.Negotiation",
    "DEFAULT_PARSER_CLASSES": ["aggregates.web.api.json_body.UniqueNamesParser"],
    "DEFAULT_THROTTLE_CLASSES": ["aggregates.web.api.throttling.ScopeThrottle"],
    "DEFAULT_THROTTLE_RATES": {"api": "6000/min", "ingest": "60000/min", "live": "3000/min", "operate": "300/min"},
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "aggregates.web.api.exception_handler.handle",
    "DEFAULT_PAGINATION_CLASS": None,
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
KNOX_TOKEN_MODEL = "aggregates.AccessToken"
REST_KNOX = {"TOKEN_TTL": None, "AUTO_REFRESH": False}
SPECTACULAR_SETTINGS = {
    "TITLE": "Zarkov",
    "DESCRIPTION": "Events in, aggregates out. Errors have one shape; times are milliseconds since 1970 or ISO 8601.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["aggregates.web.api.permission.Capability"],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "SERVERS": [{"url": ZARKOV.public_url}] if ZARKOV.public_url else [],
}
# Origins whose scripts may use the API with a token, such as https://wiki.example.org; "*" = all.
CORS_ORIGINS = ZARKOV.cors_origins
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

LOGGING_CONFIG = None
