# Roles and migrations; the only image that ever sees the database's administrator.
FROM python:3.11-slim-bookworm
COPY requirements/product.lock /tmp/product.lock
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/product.lock \
 && pip uninstall -y pip setuptools wheel
RUN groupadd --gid 10000 custody-socket \
 && useradd --uid 10006 --gid 10000 --no-create-home --shell /usr/sbin/nologin custody-migrate
COPY signer/__init__.py /app/signer/__init__.py
COPY signer/protocol /app/signer/protocol
COPY custody /app/custody
# Of ingestion only the description of its tables.
COPY ingestion/__init__.py ingestion/tables.py /app/ingestion/
WORKDIR /app
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10006:10000
ENTRYPOINT ["python", "-m", "custody.db.provision"]
