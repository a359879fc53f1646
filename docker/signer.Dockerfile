# The signer: its own package, its six dependencies, and SoftHSM as a test token. Nothing of the product is in here.
FROM python:3.11-slim-bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends softhsm2 \
 && rm -rf /var/lib/apt/lists/*
COPY requirements/signer.lock /tmp/signer.lock
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/signer.lock \
 && pip uninstall -y pip setuptools wheel
RUN groupadd --gid 10000 custody-socket \
 && useradd --uid 10001 --gid 10000 --no-create-home --shell /usr/sbin/nologin custody-signer \
 && install -d -o 10001 -g 10000 -m 0700 /var/lib/custody-signer \
 && install -d -o 10001 -g 10000 -m 0750 /run/custody-signer
COPY docker/softhsm2.conf docker/signer.toml /etc/custody-signer/
COPY --chmod=0755 docker/signer-entrypoint /usr/local/bin/signer-entrypoint
COPY docker/make-token.py /usr/local/lib/make-token.py
COPY signer /app/signer
WORKDIR /app
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 SOFTHSM2_CONF=/etc/custody-signer/softhsm2.conf
USER 10001:10000
ENTRYPOINT ["signer-entrypoint"]
