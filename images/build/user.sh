# user.sh NAME UID GID GROUPS: the notebook's user as the host knows them; GROUPS has `name:gid` lines.
# Written by hand: useradd refuses names and numbers that hosts with a directory service use.
set -eu
name=$1 uid=$2 gid=$3 groups=$4
while IFS=: read -r group number; do
    if [ -n "$group" ] && ! grep -q "^$group:\|^[^:]*:[^:]*:$number:" /etc/group; then
        printf '%s:x:%s:%s\n' "$group" "$number" "$name" >> /etc/group
    fi
done < "$groups"
if ! grep -q "^[^:]*:[^:]*:$gid:" /etc/group; then
    printf '%s:x:%s:\n' "$name" "$gid" >> /etc/group
fi
sed -i "/^$name:/d;/^[^:]*:[^:]*:$uid:/d" /etc/passwd
printf '%s:x:%s:%s:jupbox:/home/%s:/bin/bash\n' "$name" "$uid" "$gid" "$name" >> /etc/passwd
home=/home/$name
mkdir -p "$home/notebooks" /run/jupbox /etc/jupbox/seal
if [ -d /etc/skel ]; then
    cp -r /etc/skel/. "$home"
fi
chown -R "$uid:$gid" "$home" /run/jupbox /etc/jupbox/seal
chmod 0700 "$home" /run/jupbox /etc/jupbox/seal
# What jupbox hands over about the box's network. Of all of pip's files it counts least, so the
# user's own still decide; pip takes no notice of one that is not there.
ln -sfn "$home/.config/jupbox/pip.conf" /etc/pip.conf
# Debian's /etc/profile starts PATH afresh for login shells, which Jupyter's terminals are.
mkdir -p /etc/profile.d
cat > /etc/profile.d/jupbox.sh << 'END'
if jupbox=$(PYTHONPATH=/opt/jupbox/server /opt/env/bin/python -P -m jupbox_server.environment); then
    eval "$jupbox"
fi
unset jupbox
END
chmod 0644 /etc/profile.d/jupbox.sh
# install.packages keeps to a library of one's own only where that folder is there already.
if [ -f /etc/R/Rprofile.site ]; then
    cat >> /etc/R/Rprofile.site << 'END'
local({
    own <- path.expand(Sys.getenv("R_LIBS_USER"))
    if (nzchar(own) && !dir.exists(own) && dir.create(own, showWarnings = FALSE, recursive = TRUE))
        .libPaths(c(own, .libPaths()))
})
END
fi
# apt's and others' account databases; a lock file would be the only other trace
rm -f /etc/passwd- /etc/group- /etc/.pwd.lock
