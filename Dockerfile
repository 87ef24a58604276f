# The embedded engine: `docker compose run --rm demo`, or any other command of `millrace`.
FROM python:3.11.13-slim-bookworm

# Compiled kernels are cached here: the installed packages belong to root and stay read-only.
ENV NUMBA_CACHE_DIR=/var/cache/millrace \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

WORKDIR /opt/millrace
COPY requirements.lock ./
RUN pip install --require-hashes --requirement requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY features features
COPY online_models online_models
COPY actions actions
COPY streams streams
COPY replay replay
COPY millrace millrace
RUN pip install --no-deps --no-build-isolation . \
    && useradd --system --create-home millrace \
    && install -d -o millrace "$NUMBA_CACHE_DIR"

# Away from the sources, so that the installed packages are the ones that run.
WORKDIR /var/lib/millrace
RUN chown millrace .
USER millrace
ENTRYPOINT ["millrace"]
CMD ["demo"]
