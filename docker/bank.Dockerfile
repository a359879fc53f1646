# The sandbox bank. Development only: it moves no money.
FROM python:3.11-slim-bookworm
COPY requirements/devnet.lock /tmp/devnet.lock
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/devnet.lock \
 && pip uninstall -y pip setuptools wheel
RUN useradd --uid 10007 --no-create-home --shell /usr/sbin/nologin custody-bank \
 && install -d -o 10007 -m 0700 /var/lib/bank
COPY devnet/__init__.py /app/devnet/__init__.py
COPY devnet/bank /app/devnet/bank
WORKDIR /app
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10007
ENTRYPOINT ["python", "-m", "devnet.bank.main"]
