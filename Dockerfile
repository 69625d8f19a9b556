# Airflow's own image (entrypoint, user, curl, dumb-init) with exactly the packages of requirements.lock, and this project.
FROM apache/airflow:slim-3.3.2-python3.12

COPY requirements.lock /requirements.lock
# The lock is complete; pip's resolver has nothing to add.
RUN pip install --no-cache-dir --no-deps --require-hashes -r /requirements.lock

COPY --chown=airflow:0 dags /opt/airflow/dags
COPY --chown=airflow:0 include /opt/airflow/include
COPY --chown=airflow:0 plugins /opt/airflow/plugins
ENV PYTHONPATH=/opt/airflow/include
ENV ARROW_DEFAULT_MEMORY_POOL=system MALLOC_ARENA_MAX=2
