# The API process: REST and GraphQL, and the adapters that verify the rails' callbacks.
FROM python:3.11-slim-bookworm
COPY requirements/product.lock /tmp/product.lock
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/product.lock \
 && pip uninstall -y pip setuptools wheel
RUN groupadd --gid 10000 custody-socket \
 && useradd --uid 10002 --gid 10000 --no-create-home --shell /usr/sbin/nologin custody-api
COPY docker/custody.toml /etc/custody/custody.toml
# Of the signer only its wire contract.
COPY signer/__init__.py /app/signer/__init__.py
COPY signer/protocol /app/signer/protocol
COPY custody /app/custody
COPY rails /app/rails
COPY ingestion /app/ingestion
COPY api /app/api
WORKDIR /app
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 CUSTODY_CONFIG=/etc/custody/custody.toml
USER 10002:10000
CMD ["python", "-m", "api.main"]
