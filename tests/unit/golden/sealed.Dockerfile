# The body of the sealed image of "jupbox-alice_workbox", made by jupbox: the environment image, the
# notebook's user, and the server's own files. Key, certificate and password hash are not built
# in here: a build leaves what it copies in its cache. They are put on top afterwards.

FROM jupbox-env:datasci-0123
RUN --mount=type=bind,source=build/user,target=/build \
    sh /build/user.sh alice 1234 1235 /build/groups.txt
COPY server /opt/jupbox/server
ENV HOME=/home/alice \
    USER=alice \
    PYTHONPATH=/opt/jupbox/server \
    JUPYTER_RUNTIME_DIR=/run/jupbox/jupyter
WORKDIR /home/alice/notebooks
USER 1234:1235
EXPOSE 8888
ENTRYPOINT ["/opt/env/bin/python", "-P", "-m", "jupbox_server"]
