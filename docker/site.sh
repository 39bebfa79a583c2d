# Sourced by the steps of the builder stage: what the site put into docker/site holds for one RUN and is stored
# nowhere, unlike ENV and ARG.

site=/build/docker/site

if [ -s "$site/ca-bundle.pem" ]; then
    export SSL_CERT_FILE="$site/ca-bundle.pem" REQUESTS_CA_BUNDLE="$site/ca-bundle.pem" PIP_CERT="$site/ca-bundle.pem"
fi
if [ -s "$site/index-url" ]; then
    UV_DEFAULT_INDEX=$(head -n 1 "$site/index-url")
    PIP_INDEX_URL=$UV_DEFAULT_INDEX
    export UV_DEFAULT_INDEX PIP_INDEX_URL
fi
if [ -s "$site/netrc" ]; then
    export NETRC="$site/netrc"
fi
