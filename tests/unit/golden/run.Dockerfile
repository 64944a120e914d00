# The environment image "datasci", made by jupbox from its lock. It holds no secret and
# nothing of jupbox itself: it may be saved, pushed and shared.
# The same lock gives the same bytes: packages come by hash, every step ends by settling what it
# left (settle.sh), and no text here depends on when or where it is built.
# What a build needs to know of the network (proxies, indexes, a CA, the Debian mirror) comes
# in as secrets, so that none of it is in a layer, in the history or in the cache's key.
# Each step sees its own folder of the context alone: another Python package installs no Debian's.

# The Debian packages of the lock, their hashes checked; what installs them has no network.
FROM base:tag AS debs
# a base of one's own may name another
# hadolint ignore=DL3002
USER 0
RUN --mount=type=bind,source=build/debs,target=/build \
    --mount=type=cache,id=jupbox-apt-abababababab,target=/cache/apt,sharing=locked \
    --mount=type=secret,id=network --mount=type=secret,id=ca \
    --mount=type=secret,id=sources --mount=type=secret,id=snapshot \
    sh /build/fetch.sh

FROM base:tag AS system
# whoever runs this image brings a user along
# hadolint ignore=DL3002
USER 0
RUN --network=none --mount=type=bind,source=build/apt1,target=/build \
    --mount=type=bind,from=debs,source=/debs/1,target=/debs \
    sh /build/apt.sh /build/apt.txt /debs 1767225600

FROM system AS tools
# uv in the locked version, in a stage of its own: the image itself needs no installer
RUN --mount=type=bind,source=build/tools,target=/build \
    --mount=type=cache,id=jupbox-apt-abababababab,target=/cache/apt,sharing=locked \
    --mount=type=cache,id=jupbox-pip,target=/cache/pip,sharing=locked \
    --mount=type=secret,id=network --mount=type=secret,id=ca \
    --mount=type=secret,id=sources --mount=type=secret,id=netrc \
    sh /build/tools.sh

# One layer for each definition of the `extends` chain: images that extend the same share theirs.
FROM system
ENV PATH=/opt/env/bin:$PATH \
    LANG=C.UTF-8 \
    SHELL=/bin/bash
RUN --mount=type=bind,source=build/python1,target=/build \
    --mount=type=bind,from=tools,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=jupbox-uv,target=/cache/uv \
    --mount=type=secret,id=network --mount=type=secret,id=ca \
    --mount=type=secret,id=uv --mount=type=secret,id=netrc \
    sh /build/python.sh /opt/env /build/requirements.txt 1767225600
RUN --mount=type=bind,source=build/python2,target=/build \
    --mount=type=bind,from=tools,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=jupbox-uv,target=/cache/uv \
    --mount=type=secret,id=network --mount=type=secret,id=ca \
    --mount=type=secret,id=uv --mount=type=secret,id=netrc \
    sh /build/python.sh /opt/env /build/requirements.txt 1767225600
RUN --network=none --mount=type=bind,source=build/apt3,target=/build \
    --mount=type=bind,from=debs,source=/debs/3,target=/debs \
    sh /build/apt.sh /build/apt.txt /debs 1767225600
RUN --mount=type=bind,source=build/python3,target=/build \
    --mount=type=bind,from=tools,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=jupbox-uv,target=/cache/uv \
    --mount=type=secret,id=network --mount=type=secret,id=ca \
    --mount=type=secret,id=uv --mount=type=secret,id=netrc \
    sh /build/python.sh /opt/env /build/requirements.txt 1767225600 sources
RUN --mount=type=bind,source=build/kernels/deep,target=/build \
    --mount=type=bind,from=tools,source=/opt/uv,target=/opt/uv \
    --mount=type=cache,id=jupbox-uv,target=/cache/uv \
    --mount=type=secret,id=network --mount=type=secret,id=ca \
    --mount=type=secret,id=uv --mount=type=secret,id=netrc \
    sh /build/kernel.sh deep 1767225600
# the definition's own commands: what they leave is in no lock, and may differ between builds
RUN --mount=type=bind,source=build/run,target=/build \
    --mount=type=secret,id=network --mount=type=secret,id=ca \
    --mount=type=secret,id=sources --mount=type=secret,id=uv --mount=type=secret,id=netrc \
    sh /build/run.sh 1767225600
RUN --network=none --mount=type=bind,source=build/finish,target=/build \
    sh /build/finish.sh 1767225600
CMD ["/bin/bash"]
